"""Texts in; whether they sound like an author, copy him, repeat themselves, and what was learned, out."""
