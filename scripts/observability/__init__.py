"""Boards and alerts against a real Prometheus. For scripts/test-observability."""
