"""`fedkeras COMMAND`: a module a command, with `main(args) -> exit status`.

server client           the two programs
simulate demo           on one machine: Flower's simulation, and the first thing to try
data                    how a data set is divided among clients
runs report curves      what runs have left behind
compare                 the same data pooled, local, federated, split
aggregate               model files that were trained apart, combined
certs certs_folder      an authority of one's own, and certificates
completion              for a shell
process_tree            what a command has started, ended with it
"""
