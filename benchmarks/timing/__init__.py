"""One module per engine: ``run(job)`` loads a model, times it, and only then keeps what it answers for the judge."""
