"""`python -m rnnfast`: the command line."""

from rnnfast.cli import main

raise SystemExit(main())
