package explain

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// installer is a command that installs what some files name, and reads no other files of a project unless they say so.
type installer struct {
	command *regexp.Regexp
	files   []string // patterns of their names
}

// installers returns the commands that are known.
func installers() []installer {
	is := func(command string, files ...string) installer {
		return installer{regexp.MustCompile("^(?:" + command + ")$"), files}
	}
	flags := `(?: --?[a-zA-Z][-=\w./:,]*)*`
	return []installer{
		is(`npm (?:ci|install|i)`+flags, "package.json", "package-lock.json", "npm-shrinkwrap.json", ".npmrc"),
		is(`yarn(?: install)?`+flags, "package.json", "yarn.lock", ".yarnrc", ".yarnrc.yml"),
		is(`pnpm (?:install|i|fetch)`+flags, "package.json", "pnpm-lock.yaml", "pnpm-workspace.yaml", ".npmrc"),
		is(`bun (?:install|i)`+flags, "package.json", "bun.lock", "bun.lockb"),
		is(`poetry (?:install|sync) --no-root`+flags, "pyproject.toml", "poetry.lock"),
		is(`uv sync --no-install-project`+flags, "pyproject.toml", "uv.lock"),
		is(`pipenv (?:install|sync)`+flags, "Pipfile", "Pipfile.lock"),
		is(`go mod download`+flags, "go.mod", "go.sum", "go.work", "go.work.sum"),
		is(`cargo fetch`+flags, "Cargo.toml", "Cargo.lock"),
		is(`bundle install`+flags, "Gemfile", "Gemfile.lock", "*.gemspec", ".ruby-version"),
		is(`composer install`+flags, "composer.json", "composer.lock"),
		is(`mvn`+flags+` dependency:(?:go-offline|resolve)`+flags, "pom.xml"),
	}
}

// pip matches an installation of what files of requirements name.
const pip = `^(?:python3? -m )?pip3? install((?: --?[a-zA-Z][-=\w./:]*| [-\w./]+\.txt)*)$`

// reads returns the names of the files that a RUN reads of a project, by what its command is known to do; nil for any other command.
func reads(text string) (files []string) {
	text = strings.TrimPrefix(text, "RUN ")
	for strings.HasPrefix(text, "--") { // the flags of RUN
		_, text, _ = strings.Cut(text, " ")
	}
	known := installers()
	for _, command := range regexp.MustCompile(`&&|;`).Split(text, -1) {
		command = strings.Join(strings.Fields(command), " ")
		if command == "" || strings.HasPrefix(command, "cd ") || command == "set -e" || command == "set -ex" {
			continue
		}
		if m := regexp.MustCompile(pip).FindStringSubmatch(command); m != nil {
			named := requirements(m[1])
			if len(named) == 0 {
				return nil
			}
			files = append(files, named...)
			continue
		}
		i := slices.IndexFunc(known, func(k installer) bool { return k.command.MatchString(command) })
		if i < 0 {
			return nil
		}
		files = append(files, known[i].files...)
	}
	return files
}

// requirements returns the names of the files that arguments of pip name; none if they name something else to install.
func requirements(args string) (files []string) {
	list := strings.Fields(args)
	for i := 0; i < len(list); i++ {
		switch arg := list[i]; {
		case (arg == "-r" || arg == "--requirement" || arg == "-c" || arg == "--constraint") && i+1 < len(list):
			i++
			files = append(files, path.Base(list[i]))
		case strings.HasPrefix(arg, "--requirement="):
			files = append(files, path.Base(strings.TrimPrefix(arg, "--requirement=")))
		case strings.HasPrefix(arg, "-r") && len(arg) > len("-r"):
			files = append(files, path.Base(arg[len("-r"):]))
		case !strings.HasPrefix(arg, "-"):
			return nil
		}
	}
	return files
}
