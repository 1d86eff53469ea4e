"""Does a text sound like an author, copy them, repeat itself, and how much has a model learned?"""
