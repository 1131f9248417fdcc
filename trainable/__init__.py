"""One trial: typed config, data, components, training loop, Ray trainable. Runs without Ray."""
