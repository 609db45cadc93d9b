"""Executors: where calls are carried out."""
