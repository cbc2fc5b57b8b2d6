// Package remarks recognizes sentences that take a result back or leave it open.
//
// A sentence next to a result may attribute it to somebody else, amend it, retract it or hedge it. Each pattern
// matches one of these. The callers decide whether the result still counts.
package remarks

import "coeval/transforms/answers/patterns"

// Attributed matches the words that make a result somebody else's: "Score: 5 (according to the response)".
var Attributed = patterns.New(`(?i)\b(?:according\s+to|claim(?:ed|s)?\s+by|quoted\s+from|stated\s+by|written\s+by|says|in\s+the\s+words\s+of|(?:is|was|comes|came|taken|copied)\s+from)\s+(?:the\s+|this\s+|its\s+)?(?:last\s+)?(?:response|answer|assistant|reply|user|text|author|itself|judge?ment)\b` +
	`|\bas\s+(?:the\s+|this\s+)?(?:response|answer|assistant|reply|user|text|author)\s+(?:itself\s+|also\s+)?(?:claims|says|states|asserts|wants|requests|asks|suggests|demands)\b` +
	`|\b(?:response|answer|assistant|reply|user|author|text)'s\s+(?:own|self)` +
	`|\b(?:says|writes|claims|states|demands|asks|wrote|said|claimed)\s+(?:the|this)\s+(?:response|answer|assistant|reply|user|author|text)\b` +
	`|\bas\s+(?:requested|instructed|demanded|asked|told|claimed|suggested|stated|ordered)\b` +
	`|\bself-(?:assigned|reported|awarded)\b|\bit\s+(?:says|claims|writes|wrote|said)(?:\s+at\s+(?:the|its)\s+end)?[\s.)"'”’]*$|^[\s,;:([–—-]*(?:sic|quoted?|cited|example|for\s+example|e\.g\.)[\s.)\]]*$`)

// Amended matches the beginning of a sentence that replaces the result before it: "Edit: 3."
var Amended = patterns.New(`(?i)^\W*(?:edit(?:ed)?|update[d]?|amended|amendment|corrected|revised|changed?|make\s+that|no)\s*[:,–—-]\s*\S`)

// Retracted matches a sentence that takes the result before it back: "Wait, that is wrong."
var Retracted = patterns.New(`(?i)\b(?:actually|on\s+reflection|rethinking|thinking\s+about\s+it|apolog\w*|sorry|oops|my\s+mistake|(?:a|my|the)\s+typo\s+(?:of\s+mine|above|there)|(?:was|is|made)\s+(?:a|my)\s+typo|i\s+meant?|take\s+(?:\pL+\s+){1,2}back|wait|hmm+|correction|second\s+thoughts?|reconsider\w*|scratch\s+that|disregard\w*|ignore\s+(?:this|that)|not\s+my|unsure|uncertain|not\s+sure)\b|^\W*(?:no|typo\b.*)\W*$` +
	`|\b(?:withdraw\w*|retract\w*|revok\w*)\s+(?:the|my|this|that)\s+(?:\pL+\s+)?(?:score|rating|grade|mark|verdict|points?|total|decision|assessment|result)\b|\b(?:score|rating|grade|mark|verdict)\b[^.;]{0,40}?\b(?:isn't|is\s+not|is\s+no\s+longer|cannot|can't|doesn't|does\s+not|no\s+longer)\s+(?:\pL+\s+){0,2}(?:valid|stand|hold)s?\b` +
	`|^\W*(?:so\s+|thus\s+|therefore\s+)?(?:the|my|this|that)\s+(?:score|rating|grade|mark|total|verdict|figure|number|result)\s+(?:above\s+|on\s+top\s+)?(?:is|was|becomes)\s+(?:therefore\s+|thus\s+|now\s+|hence\s+)?(?:obsolete|void|outdated|superseded|withdrawn)\b` +
	`|\b(?:rectifico|retiro|ritiro|retracto|widerrufe|nehme\s+(?:\pL+\s+){1,3}zurück|ziehe\s+(?:\pL+\s+){1,3}zurück|je\s+retire|tar\s+tillbaka)\b|anzi,?\s+no\b|отзываю|беру\s+назад|撤回|取り消|철회`)

// Hedged matches the beginning of a remark that leaves the result open: "but I'm not sure".
var Hedged = patterns.New(`(?i)^[\s,;:([–—-]*(?:but\s+|though\s+|although\s+)?(?:i(?:'m|\s+am)\s+|it(?:'s|\s+is)\s+|this\s+is\s+)?(?:not\s+(?:entirely\s+|quite\s+|completely\s+|fully\s+)?(?:sure|certain)|unsure|uncertain|unclear|give\s+or\s+take|(?:i|just\s+a|at\s+a)\s+guess|debatable|tentative|provisional|approximate(?:ly)?|roughly|hard\s+to\s+say` +
	`|for\s+now|so\s+far|as\s+yet|at\s+(?:the|this)\s+(?:moment|point|stage)|prelim(?:inary)?|draft|estimated?|(?:my\s+)?guess|(?:with\s+)?(?:low|little)\s+confidence|interim|intermediate)\b` +
	`|^[\s,;:([–—-]*(?:vielleicht|eventuell|möglicherweise|vermutlich|ungefähr|etwa|circa|schätzungsweise|peut-être|probablement|environ|approximativement|quizás?|tal\s+vez|probablemente|aproximadamente|más\s+o\s+menos|talvez|provavelmente|mais\s+ou\s+menos|forse|probabilmente|pressappoco|misschien|ongeveer|być\s+może|chyba|około|kanske|ungefär|måske|cirka|kanskje|ehkä|noin|snad|asi|možná|talán|körülbelül|poate|aproximativ|belki|yaklaşık|возможно|наверное|наверно|может\s+быть|примерно|приблизительно|можливо|приблизно|ίσως|περίπου|ربما|تقريبا|شايد|אולי|शायद|लगभग|প্রায়|có\s+lẽ|có\s+thể|khoảng|mungkin|barangkali|kira-kira)(?:[^\pL\pM]|$)` +
	`|^[\s,;:([–—-]*(?:可能|也许|也許|或许|或許|大概|大约|大約|左右|上下|たぶん|多分|おそらく|恐らく|かも|くらい|ぐらい|程度|アバウト|아마|정도|쯤|가량|อาจ|ประมาณ)`)
