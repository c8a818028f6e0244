"""The programs behind the command line; library code never imports them."""
