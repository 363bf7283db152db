"""Runs the test suites of foreign clients against a broker of their own."""
