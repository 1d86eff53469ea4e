"""From files, folders and addresses to clean documents, a receipt of every byte, and a split."""
