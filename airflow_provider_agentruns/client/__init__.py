"""Talk HTTP to a vendor: values that describe a call, one synchronous and one asynchronous sender."""
