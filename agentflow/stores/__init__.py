"""Stores: where journals are kept. Each one passes the suite in tests/stores."""
