"""The rules of the product: pure, no I/O; standard library, jmespath and google-re2 only."""
