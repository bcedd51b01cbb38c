"""Reading what ``torch.save`` wrote, from sources that need not be trusted.

A torch file is a zip archive of a pickle and the numbers of its tensors. Pickles are programs, and
archives can claim to contain more than they do, so neither is given to a library that trusts it:

    archive     the parts of an archive: each inside the file, uncompressed, and undamaged
    pickled     plain values and tensors from the pickle; nothing that it names is called
    formats     recognizes files that are not ours
"""
