"""Files, folders and addresses in; clean documents, their receipt and an honest split out."""
