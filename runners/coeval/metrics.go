package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"coeval/transforms/infer"
)

// serveMetrics serves Prometheus metrics and /healthz at --metrics-addr until stop is called. Without that
// flag it serves nothing.
func (r *run) serveMetrics(ctx context.Context) (stop func() error, err error) {
	if r.flags.metricsAddr == "" {
		return func() error { return nil }, nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", r.flags.metricsAddr)
	if err != nil {
		return nil, fmt.Errorf("--metrics-addr %s: %w", r.flags.metricsAddr, err)
	}
	own := prometheus.NewRegistry()
	own.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	calls := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return infer.Attach(r.attempt).Gatherer().Gather() })
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(prometheus.Gatherers{own, calls}, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, "ok")
	})
	if r.flags.pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	fmt.Fprintf(r.command.ErrOrStderr(), "metrics at http://%s/metrics\n", l.Addr())
	return func() error {
		err := server.Close() // also ends a profile in progress
		if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	}, nil
}
