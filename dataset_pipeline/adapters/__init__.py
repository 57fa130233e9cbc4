"""The outside world: storage, files, image decoding, models, destinations. No Dagster."""
