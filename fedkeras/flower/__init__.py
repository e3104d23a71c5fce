"""Flower's own ground: other Flower apps over our runtime, and our app under Flower's.

internals     what is not Flower's public face, in this one file (docs/compatibility.md)
runtime_api   the same of a SuperNode's Runtime API, for an executor that stays
identity      node ids of the server and of clients
client_app    a ClientApp that is sent to a simulation's workers by name
ray_cluster   a Ray cluster's machines, and whether they have what a simulation needs
ray_place     on which of them a simulated client was answered for
code_digest   whether server and clients run the same code
settings      another app's configuration, and which of our flags it can use
other_app     another app found, loaded and run
"""
