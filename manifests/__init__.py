"""Manifests of the jobs, plain YAML that applies as it stands; `hbseg.cluster` completes them."""
