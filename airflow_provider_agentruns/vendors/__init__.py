"""One adapter a vendor: turns an intent into a call and an answer into a run. No I/O, no clock."""
