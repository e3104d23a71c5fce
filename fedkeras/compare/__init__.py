"""`python -m fedkeras compare`: the same training pooled, alone, federated and split, side by side.

arms.py says what there is to train, settings.py what was asked; solo.py (a process of its own) and federated.py
(`server.py --spawn`) train one part each, running.py all of them; result.py is what a finished part leaves; table.py,
words.py, pictures.py and page.py say what came out, from the results alone.
"""
