package redact

import (
	"strings"
	"testing"
)

// Whole keys are refused in command lines; names of packages, files and options with their prefixes are not.
func TestExact(t *testing.T) {
	letters := "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7cF0iL3oR6uX9b" // 40 characters
	for _, text := range []string{
		"HF_TOKEN=hf_" + letters[:34] + " trl dpo", "--hub_token hf_" + letters[:34], `--token "hf_` + letters[:34] + `"`, "a_hf_" + letters[:34],
		"OPENAI_API_KEY=sk-" + letters, "sk-proj-" + letters + "_x-y", "sk-ant-api03-" + letters, "sk-or-v1-" + strings.Repeat("0a1b", 16), "sk-" + letters[:22],
		"git clone https://oauth2:ghp_" + letters[:36] + "@github.com/o/r", "ghp_" + letters[:36], "github_pat_" + letters + "_" + letters,
		"AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE", "glpat-" + letters[:20], "gsk_" + letters, "AIza" + letters[:35],
		"https://me:hunter2hunter2@host/x", "https://$USER:hunter2hunter2@host", "http://:secret@proxy:3128", "s3://${ID}:p4ss@bucket",
		"-H 'Authorization: Bearer abcdef0123456789'", `-H "authorization: basic dXNlcjpwYXNzd29yZA=="`,
		"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
	} {
		if !Exact(text) {
			t.Errorf("%q is allowed", text)
		}
	}
	for _, text := range []string{
		"pip install hf_transfer && trl dpo {out}", "HF_HUB_ENABLE_HF_TRANSFER=1 train {out}", "python convert_hf_checkpoint.py --hf_checkpoint_directory_of_the_model {out}",
		"train.py --preset basic --model {model}", "python basic_training.py", "echo basic training", "--auth bearer --tokenizer my/long-tokenizer-name",
		"pip install git+ssh://git@github.com/org/repo", "git clone ssh://git@host:22/org/repo", "--log wandb://entity@project", "git clone git@github.com:org/repo",
		"HF_TOKEN=$HF_TOKEN train", "HF_TOKEN=$VAR", `-H "Authorization: Bearer $KEY"`, `-H "Authorization: Bearer $(cat /run/secrets/the-key-of-the-hub)"`,
		"https://me:$TOKEN@host/x", "https://$USER:$PASSWORD@host", "https://oauth2:${HF_TOKEN}@huggingface.co/o/r", `https://me:"$TOKEN"@host`, "https://me:`cat key`@host",
		"http://host:8000/v1/a@b", "docker run registry.example:5000/trainer@sha256:0123456789abcdef", "oci://registry:5000/trainer@sha256:0123456789abcdef",
		"--config risk-averse_decision_maker_2", "/data/sk-learn-models-for-classification-v2", "sk-very-long-name-of-a-scheduled-task", "disk-0123456789012345678901234567890123456789",
		"python -m torch.distributed.run --rdzv_id=job_0123456789 --rdzv_endpoint=host:29500 train.py", "train --out {out} --commit 0123456789abcdef0123456789abcdef01234567",
	} {
		if Exact(text) {
			t.Errorf("%q is refused", text)
		}
	}
}
