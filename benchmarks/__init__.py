"""Show what the poll scheduler gains: a simulator of policies, and triggers side by side on real HTTP."""
