package config

// What tests with the graph share with those without.
var (
	Valid  = valid
	KeysOf = keys
)
