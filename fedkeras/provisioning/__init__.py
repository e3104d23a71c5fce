"""Server-led training: the server hands out the model file and, if asked, the data; clients need neither.

    server                                                  client
      |  offer       digests and sizes of model and data       |
      |  <- what it lacks                                       |
      |  model_file, model_file, ...                            |  written to the cache, checked by digest
      |  data_rows, data_rows, ...                              |  the same, as .npy files that are memory-mapped
      |  describe                                               |
      |  <- count, mean, M2, minimum, maximum; its labels       |
      |  settle      normaliser and labels of all clients       |
      |  train, evaluate as in any run; or fit, progress, deliver, confirm (`--mode collect`)

`lead` is the server's side of it, `follow` the client's.
"""
