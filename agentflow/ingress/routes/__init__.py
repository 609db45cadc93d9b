"""The routes of the service, a file for each group; every one stands behind the guard."""
