"""A client of the Kubernetes API; nothing here knows what hbseg uses the objects for."""
