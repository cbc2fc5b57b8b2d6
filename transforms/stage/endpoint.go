package stage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/net/http/httpguts"

	"coeval/schemas/redact"
)

// Endpoint is one OpenAI-compatible server. It carries the names of variables and files with secrets,
// never the secrets themselves.
type Endpoint struct {
	// URL is the base URL, as in http://host:8000/v1.
	URL string `json:"url"`
	// APIKeyEnv names the environment variable that contains the API key. Empty means none.
	APIKeyEnv string `json:"api_key_env,omitempty"`
	// APIKeyFile names the file that contains the API key, instead.
	APIKeyFile string `json:"api_key_file,omitempty"`
	// APIKeyHeader is the header in which the key is sent as it is, such as api-key. Empty means
	// "Authorization: Bearer KEY".
	APIKeyHeader string `json:"api_key_header,omitempty"`
	// Headers and Query are sent with each request.
	Headers Fields `json:"headers,omitempty"`
	Query   Fields `json:"query,omitempty"`
	// CAFile names a PEM file with additional certificate authorities.
	CAFile string `json:"ca_file,omitempty"`
}

// Fields are names with values as a JSON object, so that endpoints can be compared. A value of the
// form env:NAME or file:PATH refers to the content of a variable or file.
type Fields string

const (
	fromEnv  = "env:"
	fromFile = "file:"
)

// FieldsOf returns the fields of a map.
func FieldsOf(values map[string]string) Fields {
	if len(values) == 0 {
		return ""
	}
	b, err := json.Marshal(values) // sorts the names
	if err != nil {
		panic(fmt.Sprintf("stage: a map of strings can't be encoded: %v", err))
	}
	return Fields(b)
}

// IsReference reports whether a value refers to the content of a variable or file.
func IsReference(value string) bool {
	return strings.HasPrefix(value, fromEnv) || strings.HasPrefix(value, fromFile)
}

// read returns the values by name, and those that came from variables and files.
func (f Fields) read(key string) (values map[string]string, secrets []string, err error) {
	if f == "" {
		return nil, nil, nil
	}
	if err := json.Unmarshal([]byte(f), &values); err != nil {
		return nil, nil, fmt.Errorf("stage: %s: %w", key, err)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := values[name]
		if variable, ok := strings.CutPrefix(value, fromEnv); ok {
			value, err = readVariable(key+"."+name, variable)
		} else if file, ok := strings.CutPrefix(value, fromFile); ok {
			value, err = readSecretFile(key+"."+name, file)
		} else {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		values[name] = value
		secrets = append(secrets, value)
	}
	return values, secrets, nil
}

// Credentials are the secrets and parameters that an endpoint's server receives with a request.
type Credentials struct {
	// Key is the API key, empty if there is none.
	Key string
	// Header and Query are sent with each request. Header includes the key.
	Header http.Header
	Query  map[string]string
	// Secrets are the values that must not be shown or kept.
	Secrets []string
}

// Credentials reads the key, headers and query of the endpoint from their variables and files. Its
// errors name the key of the config below its section, as in api_key_env or headers.X-Org.
func (e Endpoint) Credentials() (*Credentials, error) {
	c := &Credentials{Header: http.Header{}}
	var err error
	if c.Key, err = e.apiKey(); err != nil {
		return nil, err
	}
	headers, secrets, err := e.Headers.read("headers")
	if err != nil {
		return nil, err
	}
	for name, value := range headers {
		if !httpguts.ValidHeaderFieldValue(value) {
			return nil, fmt.Errorf("headers.%s has a value with line breaks or other control characters. Give one line of text", name)
		}
		c.Header.Set(name, value)
	}
	c.Secrets = append(c.Secrets, secrets...)
	if c.Query, secrets, err = e.Query.read("query"); err != nil {
		return nil, err
	}
	c.Secrets = append(c.Secrets, secrets...)
	if c.Key == "" {
		return c, nil
	}
	c.Secrets = append(c.Secrets, c.Key)
	if e.APIKeyHeader == "" {
		c.Header.Set("Authorization", "Bearer "+c.Key)
	} else {
		c.Header.Set(e.APIKeyHeader, c.Key)
	}
	return c, nil
}

// SendsSecret reports whether the endpoint is sent a key or another secret.
func (e Endpoint) SendsSecret() bool {
	if e.APIKeyEnv != "" || e.APIKeyFile != "" {
		return true
	}
	for _, f := range []Fields{e.Headers, e.Query} {
		var values map[string]string
		if f != "" && json.Unmarshal([]byte(f), &values) == nil && slices.ContainsFunc(slices.Collect(maps.Values(values)), IsReference) {
			return true
		}
	}
	return false
}

// Access returns the endpoint without its place: two with one access need the same secrets.
func (e Endpoint) Access() Endpoint {
	e.URL, e.CAFile = "", ""
	return e
}

// apiKey reads the endpoint's key. It is empty when the endpoint needs none.
func (e Endpoint) apiKey() (string, error) {
	switch {
	case e.APIKeyEnv != "":
		key, err := readVariable("api_key_env", e.APIKeyEnv)
		if err == nil && !httpguts.ValidHeaderFieldValue(key) {
			err = fmt.Errorf("api_key_env names %s, which contains a line break or another control character. Put one key and nothing else into it", shownVariable(e.APIKeyEnv))
		}
		return key, err
	case e.APIKeyFile != "":
		key, err := readSecretFile("api_key_file", e.APIKeyFile)
		if err == nil && (strings.ContainsFunc(key, unicode.IsSpace) || !httpguts.ValidHeaderFieldValue(key)) {
			err = fmt.Errorf("api_key_file names %s, which must contain one key and nothing else", shownFile(e.APIKeyFile))
		}
		return key, err
	}
	return "", nil
}

func readVariable(key, name string) (string, error) {
	value := strings.TrimSpace(os.Getenv(name)) //nolint:forbidigo // a worker of a cluster has its own environment
	if value == "" {
		return "", fmt.Errorf("%s names %s, which is not set", key, shownVariable(name))
	}
	return value, nil
}

// readSecretFile returns the content of a file without the space around it.
func readSecretFile(key, name string) (string, error) {
	b, err := ReadLocal(name)
	if err != nil {
		if failed, ok := errors.AsType[*fs.PathError](err); ok { // its text has the name
			err = failed.Err
		}
		return "", fmt.Errorf("%s names %s, which can't be read: %w", key, shownFile(name), err)
	}
	value := strings.TrimSpace(string(b))
	if value == "" {
		return "", fmt.Errorf("%s names %s, which must contain one key and nothing else", key, shownFile(name))
	}
	return value, nil
}

// variableName is how environment variables are usually named.
var variableName = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)

// shownVariable names an environment variable in a message, but not if it may be the key itself, given
// in the place of the name.
func shownVariable(name string) string {
	if variableName.MatchString(name) && !redact.Value(name) {
		return "the environment variable " + name
	}
	return "an environment variable (its name is not shown, it may be a key)"
}

// maxExtension is the length of the longest usual extension of a file with a key, as .token.
const maxExtension = 7

// shownFile is shownVariable for a file. Keys may have slashes and dots, too.
func shownFile(name string) string {
	dir, base := filepath.Split(name)
	_, err := os.Stat(filepath.Clean(dir))
	placed := dir != "" && err == nil
	if extension := filepath.Ext(base); !redact.Value(name) && (placed || filepath.IsAbs(name) || extension != "" && len(extension) <= maxExtension) {
		return name
	}
	return "a file (its name is not shown, it may be a key)"
}
