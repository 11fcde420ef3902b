"""One repository, open: storage, index, packs and refs joined into chunks, objects, trees, history and a ref log."""
