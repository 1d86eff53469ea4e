"""Readers of documents: one module for each family of formats, all with limits and an account of what they drop."""
