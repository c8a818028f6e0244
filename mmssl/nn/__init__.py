"""Networks: encoders, heads, the bundle of encoders, the matcher that exported heads offer."""
