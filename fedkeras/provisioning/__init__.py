"""Server-led training: the server hands out the model file and, if asked, the data; clients need neither.

    server                                                  client
      |  offer              digests and sizes of model and data
      |  <-                 which of them it lacks; the digest of the preprocessing it has
      |  model_file, ...    pieces of the file                  written to the cache, checked by digest
      |  data_rows, ...     slices of the client's shard        the same, as .npy files that are memory-mapped
      |  describe           where the data are the client's own
      |  <-                 count, mean, M2, minimum, maximum of its features; its labels; names of its columns
      |  set_preprocessing  normaliser, labels and columns of all clients
      |  then a workflow's messages: train and evaluate, or fit, progress, deliver, confirm

In any other run, clients are asked to `describe` their part of the data set where its scaling, or what its classes
weigh, depends on their rows and the server has no copy of them; what comes of it is stamped into every later message.
What the server can see in its own data it asks nobody.

On the server:
    server              what is handed out (`Provision`), the checks of it, and the scripts of sending it
    column_order        one order of columns for all clients, by their names
    model_file          the model file: digest, shapes, pieces
    shards              one client's rows of the server's tables: digest, slices
    client_manager      `ProvisionedClientManager`: who joins is provisioned before it takes part; `OfferAgain`
    described_clients   `DescribedClientManager`: who brings model and data along is asked what all must share
    agreement           what clients say of their data, and what is made of it for all
    description_check   whose description does not fit the others'
    central_evaluation  the server's own test tables
    loss_check          which loss suits the model and what clients say they have
    provisioned_run     what a run takes of all this when it is put together

On both sides:
    protocol            what is in a message; checks of answers; compression
    preprocessing       `Preprocessing`: normaliser, label numbers, columns and class weights that all clients share

On the client:
    client              the handlers, and what a process keeps for them (`ProvisionedClients`)
    client_data         `ProvisionedClient`: its examples, scaled and held out; its model file as a Learner
    download_cache      what was received, by digest
"""
