"""What the server of every way to train needs; it knows no workflow, no mod and no strategy's page.

grids               what a grid can do: ours, Flower's, and the cohort that a strategy is shown
client_weights      what each client counts for
claimed_steps       what clients say of their local steps, and what they were to do
client_manager      which clients are connected, and waiting for them
sampling            the cohort of a round, and who is suspended after failures
client_speeds       how fast simulated clients are
round_clock         which of a round's clients are in time: deadlines and over-selection
simulated_clock     the same by a simulated clock, and the seconds that a round takes
dispatcher          messages to several clients and their replies, deadlines, scripts
reply_order         replies in the order of cid
source_check        whether server and client mean the same data set
requests            a message as a client's handlers see it
received_config     what a client makes of the run configuration that it is sent
validation          what is wrong with a reply
round_result        what came of a round
metrics             a round's lines of history.csv
metric_names        which of the clients' own metrics are kept

registry            strategies by name
base_strategy       what the pages of strategies extend
strategy_adapter    calling a strategy that anybody may have written
local_steps         what a client's steps add up to
strategy_state      its state, for a checkpoint
trainable           which arrays are trained; the others are kept from a strategy and averaged
messages            what is in a round's messages
records             Flower's records as numpy arrays, and back
aggregation         the weighted mean
initial_weights     the first global weights, from a client
offline_aggregation models that were trained apart, by a strategy
"""
