//go:build e2e

package main

import (
	"fmt"
	"path/filepath"
	"strings"
)

// A dockerfile is a build context with one Dockerfile of its own; several may share the files.
const (
	smallFile  = "FROM base\nWORKDIR /app\nCOPY requirements.txt .\nRUN cat requirements.txt >installed\nCOPY app.py .\nCMD [\"cat\", \"app.py\"]\n"
	copyFile   = "FROM base\nCOPY files /files\nCMD [\"true\"]\n"
	copyRun    = "FROM base\nCOPY files /files\nRUN echo done >/done\nCMD [\"true\"]\n"
	emptyFile  = "FROM %s\n"
	runTrue    = "FROM %s\nRUN [\"/bin/true\"]\n"
	fromStage  = "FROM many AS stage\nRUN echo stage >/stage\nFROM base\nARG ROUND\nCOPY --from=stage /files /files-$ROUND\n"
	stageCount = 8
	stepCount  = 20
)

// writeContexts writes all that builds read.
func (b *bench) writeContexts() error {
	many, big := manyFiles, int64(bigSize)
	if b.quick {
		many, big = quickManyFiles, quickBigSize
	}
	b.manyBytes, b.bigBytes = int64(many)*manySize, bigFiles*big
	if err := writeSmall(b.context("small")); err != nil {
		return err
	}
	if err := writeMany(filepath.Join(b.context("many"), "files"), many, manySize); err != nil {
		return err
	}
	if err := writeBig(filepath.Join(b.context("big"), "files"), bigFiles, big); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"small/Dockerfile": smallFile, "many/Dockerfile": copyFile, "many/Dockerfile.run": copyRun,
		"big/Dockerfile": copyFile, "big/Dockerfile.run": copyRun,
		"steps/Dockerfile": steps(stepCount), "stages/Dockerfile": stages(stageCount), "from/Dockerfile": fromStage,
		"prime/Dockerfile": fmt.Sprintf(runTrue, "base"),
	} {
		if err := writeFile(b.context(name), []byte(text)); err != nil {
			return err
		}
	}
	for _, name := range []string{"many", "big"} {
		for dir, text := range map[string]string{"is-": emptyFile, "run-": runTrue} {
			if err := writeFile(filepath.Join(b.context(dir+name), "Dockerfile"), fmt.Appendf(nil, text, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// context is the directory of a build context, or a file in one.
func (b *bench) context(name string) string { return filepath.Join(b.dir, "contexts", name) }

// steps is a Dockerfile of so many RUN steps, none of which is cached with a ROUND that is new.
func steps(n int) string {
	return "FROM base\nARG ROUND\n" + strings.Repeat("RUN echo $ROUND\n", n)
}

// stages is a Dockerfile of stages that take a second each and depend on nothing but ROUND, joined in a last one.
func stages(n int) string {
	var text, join strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "FROM base AS s%d\nARG ROUND\nRUN sleep 1; echo $ROUND >/out-%d\n", i, i)
		fmt.Fprintf(&join, "COPY --from=s%d /out-%d /\n", i, i)
	}
	return text.String() + "FROM base\n" + join.String()
}
