package loop

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"coeval/runners/loop/steps"
	"coeval/runners/loop/swap"
	"coeval/schemas"
)

// Servers may move between two starts. The same weights answer a little differently on another machine, so that canaries
// of two servers can't be compared: the file of a canary is named for the address of its server.

// canaryFile returns the file in a folder with the canary of the server at an address.
func canaryFile(folder, base, address string) string {
	const shown = 12
	return filepath.Join(folder, fmt.Sprintf("%s-%s.json", base, schemas.Digest(strings.TrimRight(address, "/"))[:shown]))
}

// formerCanary returns the file with the canary of server i of a group from before the swap of iteration t. Earlier
// versions named it by i, and did not move servers.
func (l *Loop) formerCanary(t int, at *serverGroup, i int) string {
	file := canaryFile(at.canaries, "canary", at.urls[i])
	earlier := filepath.Join(at.canaries, fmt.Sprintf("canary-%d.json", i))
	if isFile(file) || !isFile(earlier) {
		return file
	}
	if _, last := l.lastSwap(t, at.step); last != nil && last.proof(at.urls[i]) == nil {
		return file
	}
	return earlier
}

func isFile(name string) bool {
	is, err := os.Stat(name)
	return err == nil && is.Mode().IsRegular()
}

// lastSwap returns the last swap of a group up to iteration t, and its iteration; nil before the first one.
func (l *Loop) lastSwap(t int, step steps.Step) (int, *swapped) {
	for i := t; i > 0; i-- {
		if last, err := steps.Output[swapped](l.state, i, step); err == nil {
			return i, last
		}
	}
	return 0, nil
}

// proof returns the proof of the server at an address, nil if the swap did not include it.
func (s *swapped) proof(address string) *swap.Proof {
	for of, proof := range s.Proofs {
		if strings.TrimRight(of, "/") == strings.TrimRight(address, "/") {
			return proof
		}
	}
	return nil
}

// checkFormer returns an error if nothing shows that server i of a group serves the former model, whose canary the swap
// of iteration t would record there. Where the loop reloads or starts the new weights, each change of the answers is due
// to them, so that any former model will do.
func (l *Loop) checkFormer(ctx context.Context, t int, at *serverGroup, i int, canary string) error {
	before, last := l.lastSwap(t-1, at.step)
	if l.Config.Swap.Kind != swap.Wait && l.Config.Swap.Kind != swap.LoRA || last == nil || last.proof(at.urls[i]) != nil || isFile(canary) {
		return nil
	}
	err := l.checkMoved(ctx, before, at, at.urls[i], &last.Model)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// checkMoved returns an error unless a server that the swap of iteration t did not include reports by itself that it
// has the weights of that model. The loop starts a server of swap.kind command with them, and for lora see moveAdapter.
func (l *Loop) checkMoved(ctx context.Context, t int, at *serverGroup, address string, model *checkpoint) error {
	server := l.server(address)
	switch l.Config.Swap.Kind {
	case swap.LoRA:
		return l.moveAdapter(ctx, t, at, server, model)
	case swap.Command:
		command, _ := l.current(t, at, at.step)
		_, down := server.Models(ctx)
		if ours := down != nil || command.Runs(); ours {
			return nil
		}
	}
	var reported string
	var same bool
	err := l.whenServed(ctx, server, model.Name, func(ctx context.Context, server *swap.Server) (err error) {
		reported, same, err = server.Identify(ctx, l.Config.Swap.Kind, swap.Checkpoint{Path: model.Path, Name: model.Name, Digest: model.Digest})
		return err
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if same {
		return nil
	}
	reason := "it reports neither a version nor a path of its weights"
	if reported != "" {
		reason = fmt.Sprintf("it reports the weights %s instead of %s (digest %s)", reported, model.Path, model.Digest)
	}
	if err != nil {
		reason = err.Error()
	}
	return &swap.NotSwappedError{What: fmt.Sprintf("the model of the server %s can't be checked: the swap of iteration %d did not include this server, and %s. "+
		"Restore the former address; or start the server with %s as its model, so that it reports this path. "+
		"To repeat the swap instead, start the server with the former model, and remove the line of iteration %d, %s and all lines below it from %s",
		address, t, reason, model.Path, t, at.step, steps.StateFile)}
}

// moveAdapter loads the adapter of the swap of iteration t into a server that the swap did not include, and proves it
// there: the server serves the base model, too.
func (l *Loop) moveAdapter(ctx context.Context, t int, at *serverGroup, server *swap.Server, model *checkpoint) error {
	l.say("  loading %s into %s, which the swap of iteration %d did not include", model.Path, server.URL, t)
	c := swap.Checkpoint{Path: model.Path, Name: model.Name, Digest: model.Digest}
	err := server.Load(ctx, l.Config.Swap.Dialect, c)
	if err == nil {
		var base *swap.Canary
		if base, err = server.RecordOnce(ctx, canaryFile(l.Config.Dir, at.base, server.URL), l.firstName()); err == nil {
			_, err = server.Prove(ctx, swap.LoRA, c, base, base)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("the server %s does not serve %s, the model of iteration %d: %w. Mend the server, or restore the former address", server.URL, model.Path, t, err)
}
