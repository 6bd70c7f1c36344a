"""Archives of file trees: tar read and written, compression, whiteouts. Pure formats: touches no file system."""
