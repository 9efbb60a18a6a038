// Package telemetry is how berthd tells what it does: the log, the metrics registry, the traces and the health checks.
//
// It knows nothing of HTTP and nothing of the settings' grammar: the assembly hands in small option structs, and the
// httpd room renders what is collected here. Nothing in this room blocks a request: metrics are atomic additions, spans
// are handed to a batcher, a health answer is at most one second old.
//
// Start reading at [NewLogger], [NewMetrics], [NewHealth] and [NewTracing].
package telemetry
