"""The Dagster shell: assets, checks, resources and jobs. No logic of its own."""
