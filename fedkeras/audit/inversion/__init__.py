"""What a curious server rebuilds of its clients' images: gradient inversion, plain and through a run's mods.

Geiping, Bauermeister, Droege, Moeller: Inverting Gradients, NeurIPS 2020, arXiv:2003.14053.

    attack              the attack of `fedkeras audit`, and what is said of it
    curious_server      one real round of clients that hold a few images each, as the server sees it
    rebuilding          from what the server sees to images, and how near they are to the originals
    gradient_matching   images whose update would have had the direction of the one that was seen; TensorFlow
    analytic            what algebra gives without any search: the input of a dense layer, labels
    likeness            how near a rebuilt image is to its original
    picture             originals above what was rebuilt
"""
