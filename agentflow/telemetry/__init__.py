"""Traces by OpenTelemetry. Imported only where a configuration asks for them, or a program has set up an SDK of its own."""
