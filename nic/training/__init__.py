"""Training: data, model, loss, loop, export. The codec never imports this package."""
