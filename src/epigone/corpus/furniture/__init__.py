"""Page furniture in the text of books: page numbers, running heads, notes, contents. What has no proof stays."""
