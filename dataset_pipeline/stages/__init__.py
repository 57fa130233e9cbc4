"""The method: pure functions from tables and settings to tables, one module per stage.

No Dagster, network, clock or global random state. A model enters through a Protocol.
"""
