"""The Kubernetes backend: manifests, their client, and what is read from the cluster."""
