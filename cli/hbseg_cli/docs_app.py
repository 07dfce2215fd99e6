"""All commands at once, for who looks at the command line as a whole (`make docs`)."""

from hbseg_cli.main import application

app = application()
