"""How it looks: the namespace, its views, the journal behind it, and the commands."""
