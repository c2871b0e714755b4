package tenure_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/tenure-election/tenure/bindings/go/tenure"
)

const password = "open-sesame-71"

func expectHidden(t testing.TB, what, text string) {
	t.Helper()
	if text == "" || strings.Contains(text, "sesame") {
		t.Errorf("%s shows %q", what, text)
	}
}

func TestNoPasswordIsShown(t *testing.T) {
	t.Parallel()
	var lines lockedBuffer
	logger := slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug}))
	options := tenure.Options{
		Endpoints: []string{etcd(t)}, Service: serviceName(t), Logger: logger, TTL: 2 * time.Second,
		Username: "ann", Password: password, More: map[string]string{"password": password, "username": "ann"},
	}
	nested := struct{ Options any }{options}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		expectHidden(t, verb, fmt.Sprintf(verb, options))
		expectHidden(t, verb+" of a pointer", fmt.Sprintf(verb, &options))
		expectHidden(t, verb+" of a struct", fmt.Sprintf(verb, nested))
		expectHidden(t, verb+" of a list", fmt.Sprintf(verb, []tenure.Options{options}))
	}
	if text := fmt.Sprintf("%+v", options); !strings.Contains(text, "Username:ann") || !strings.Contains(text, "***") {
		t.Errorf("the rest isn't shown: %s", text)
	}
	if options.Password != password || options.More["password"] != password {
		t.Error("showing the options has changed them")
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&lines, nil), slog.NewJSONHandler(&lines, nil)} {
		slog.New(handler).Info("opening", "options", options)
	}

	service := open(t, options)
	campaign := lead(t, service, "e", tenure.CampaignOptions{})
	observer, err := service.Observe(background, "e")
	must(t, err)
	for what, value := range map[string]any{"the service": service, "the campaign": campaign, "the observer": observer} {
		for _, verb := range []string{"%v", "%+v", "%#v"} {
			expectHidden(t, what, fmt.Sprintf(verb, value))
		}
	}
	options.Endpoints = []string{"http://ann:" + password + "@127.0.0.1:1"}
	_, err = tenure.Open(background, options)
	expectError(t, err, tenure.ErrInvalidValue)
	for cause := err; cause != nil; cause = errors.Unwrap(cause) {
		expectHidden(t, "the error", fmt.Sprintf("%v %+v %#v", cause, cause, cause))
	}
	must(t, campaign.Resign(within(t, patience)))
	eventually(t, "a line", func() bool { return strings.Contains(lines.String(), "level=") })
	expectHidden(t, "the log", lines.String())
}
