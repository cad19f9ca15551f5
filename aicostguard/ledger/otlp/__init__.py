"""What was taken in, told to an OpenTelemetry collector: OTLP metrics over HTTP. Needs the extra `otlp`.

`settings` is where to and how, `shape` what, `sender` when. Off unless a URL is named.
"""
