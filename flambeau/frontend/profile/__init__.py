"""Where the time goes: `with fb.profile() as p`, and what memory is taken."""
