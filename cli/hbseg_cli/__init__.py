"""The command line of hbseg."""
