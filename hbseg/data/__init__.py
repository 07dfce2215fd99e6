"""Hand radiographs and their annotations, from raw folders to datasets."""
