package tenure

import (
	"context"
	"fmt"
	"log/slog"
)

// Weights of log lines, as the library numbers them.
var levels = map[int32]slog.Level{1: slog.LevelError, 2: slog.LevelWarn, 3: slog.LevelInfo, 4: slog.LevelDebug}

// Lines that wait for the program's handler.
const logLines = 256

// levelOf is the option `log_level` for a logger; empty, the default, for none.
func levelOf(logger *slog.Logger) string {
	if logger == nil {
		return ""
	}
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if logger.Enabled(context.Background(), level) {
			return map[slog.Level]string{
				slog.LevelDebug: "debug", slog.LevelInfo: "info", slog.LevelWarn: "warn", slog.LevelError: "error",
			}[level]
		}
	}
	return ""
}

type logLine struct {
	level   slog.Level
	message string
}

// logWriter takes lines to the program's logger on a goroutine of its own: a handler that blocks delays no statuses.
type logWriter struct {
	lines   chan logLine
	dropped int
}

func newLogWriter(logger *slog.Logger) *logWriter {
	if logger == nil {
		return nil
	}
	writer := &logWriter{lines: make(chan logLine, logLines)}
	go func() {
		for line := range writer.lines {
			logger.Log(context.Background(), line.level, line.message)
		}
	}()
	return writer
}

// put and end are called by the service's one goroutine; both are fine on nil.
func (w *logWriter) put(level int32, message string) {
	if w == nil {
		return
	}
	if w.dropped > 0 {
		message = fmt.Sprintf("%s (%d lines before this were left out)", message, w.dropped)
	}
	select {
	case w.lines <- logLine{levels[level], message}:
		w.dropped = 0
	default:
		w.dropped++
	}
}

func (w *logWriter) end() {
	if w != nil {
		close(w.lines)
	}
}
