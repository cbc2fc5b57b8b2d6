package meta

import (
	"fmt"
	"regexp"
	"strings"

	"coeval/schemas"
	"coeval/transforms/answers"
	"coeval/transforms/answers/patterns"
	"coeval/transforms/stage"
)

// The reasons why a comparison has no verdict, as raw/comparisons names them.
const (
	// CutOff is a text that the model didn't finish.
	CutOff = answers.CutOff
	// Empty is a comparison without text.
	Empty = answers.Empty
	// Missing is a text with no verdict line.
	Missing = answers.Missing
	// Quoted is a text with verdict lines in quoted blocks only.
	Quoted = answers.Quoted
	// Tie is a verdict line that names neither or both.
	Tie = "tie"
	// Ambiguous is a text that doesn't name A or B clearly.
	Ambiguous = answers.Ambiguous
)

const strongLabels = `winner|final verdict|final decision|final choice|preferred|better|more accurate|most accurate|preferred judgment|better judgment|more accurate judgment|
	preferred judgement|better judgement|more accurate judgement|better one|more accurate one|better evaluation|selected judgment|chosen judgment|best judgment|winning judgment|
	更好的判断|更准确的判断|更准确的评价|更准确的是|更好的是|更准确|更正確|胜出者|勝出者|胜出|获胜方|更优者|优胜|final answer|verdict|
	获胜者|胜者|赢家|优胜者|獲勝者|勝者|最终裁决|最终判决|最終判定|判定|より正確な判断|より正確な評価|より正確なのは|より優れているのは|優れているのは|優勝|勝ち|승자|승리|우승자|승리자|더 정확한 판단|더 정확한 평가|더 나은 판단|
	genauere urteil|genauere bewertung|bessere urteil|jugement le plus précis|juicio más preciso|julgamento mais preciso|giudizio più accurato|более точное суждение|более точная оценка|gewinner|gewinnerin|sieger|besser|genauer|bessere bewertung|gagnant|vainqueur|meilleur jugement|plus précis|ganador|ganadora|mejor juicio|más preciso|vencedor|vencedora|ganhador|melhor|mais preciso|
	vincitore|vincente|migliore|guanyador|gañador|irabazlea|winnaar|beter|vinder|vinner|vinnare|voittaja|sigurvegari|győztes|nyertes|zwycięzca|zwycięzcą|lepszy|lepsza|vítěz|víťaz|pobjednik|pobednik|zmagovalec|
	победитель|победителем|лучше|точнее|переможець|победник|победител|победник|побєдник|câștigător|castigator|câștigătorul|fitues|νικητής|kazanan|daha doğru|qalib|жеңімпаз|g'olib|
	الفائز|المنتصر|הזוכה|זוכה|الأفضل|الأدق|برنده|فاتح|המנצח|מנצח|המנצחת|विजेता|बेहतर|বিজয়ী|বিজয়ী|வெற்றியாளர்|విజేత|ವಿಜೇತ|വിജയി|વિજેતા|ਜੇਤੂ|ජයග්` + "\u200d" + `රාහකයා|
	ผู้ชนะ|ผู้ชนะคือ|ຜູ້ຊະນະ|អ្នកឈ្នះ|အနိုင်ရသူ|người thắng|người chiến thắng|bên thắng|tốt hơn|chính xác hơn|pemenang|nanalo|mshindi|გამარჯვებული|հաղթող|ялагч|አሸናፊ|nugalėtojas|uzvarētājs|võitja`

const weakLabels = `pick|vote|ruling|final ruling|selected|chosen|decision|choice|answer|result|conclusion|preference|judgment|judgement|final|overall|selection|结论|最终结论|结果|結論|결론|答案|最终答案|最終答案|答え|回答|选择|選択|정답|답|답변|선택|
	urteil|entscheidung|antwort|wahl|décision|réponse|choix|verdict final|decisión|respuesta|elección|veredicto|decisão|resposta|escolha|veredito|decisione|risposta|scelta|verdetto|
	решение|ответ|вердикт|выбор|keputusan|jawaban|karar|cevap|الحكم|الجواب|الإجابة|القرار|उत्तर|निर्णय|quyết định|đáp án|kết luận|odpowiedź|decyzja|` + answers.Wrapper

func labels() map[string]answers.Kind {
	out := map[string]answers.Kind{}
	for kind, words := range map[answers.Kind]string{answers.Strong: strongLabels, answers.Weak: weakLabels} {
		for word := range strings.SplitSeq(words, "|") {
			if word = strings.TrimSpace(word); word != "" {
				out[word] = kind
			}
		}
	}
	return out
}

var verdicts = &answers.Grammar{
	Labels: labels(),
	Keys: map[string]answers.Kind{
		"winner": answers.Strong, "verdict": answers.Strong, "finalverdict": answers.Strong, "decision": answers.Strong, "choice": answers.Strong,
		"finaldecision": answers.Strong, "finalanswer": answers.Strong, "selected": answers.Strong, "chosen": answers.Strong, "pick": answers.Strong, "selection": answers.Strong,
		"winningjudgment": answers.Strong, "bestjudgment": answers.Strong, "moreaccuratejudgment": answers.Strong, "best": answers.Strong,
		"preferred": answers.Strong, "better": answers.Strong, "preference": answers.Strong, "answer": answers.Weak, "judgment": answers.Weak, "result": answers.Weak,
		"betterjudgment": answers.Strong, "preferredjudgment": answers.Strong, "moreaccurate": answers.Strong,
	},
	Parse: read, Label: label, Sentence: sentence, Contests: contests, States: func(string) bool { return false }, Merge: merge,
}

var (
	// echo is the instruction in brackets, as <A or B>.
	echo = patterns.New(`(?i)^[\[({<]\s*(?:judge?ment\s+)?A\s*(?:or|/|\|)\s*(?:judge?ment\s+)?B\s*[\])}>]`)
	// placeholder is any other bracket without a letter A or B.
	placeholder = patterns.New(`^["'“]?[<\[{(]\s*[\pL][\pL\s_.,'’/-]+[>\]})]`)
)

// wholeNote matches a note after a label that leaves the verdict one on the whole judgments.
var wholeNote = patterns.New(`(?i)^(?:[^\pL]|\b(?:the|more|most|accurate|better|judge?ments?|a|b|or|final|overall|of|two|both|verdict|winner|choice|one|and|fair|between)\b|更?(?:准确|正確|好)|或|または|か|的|の|より|判断|评价|評価|判定|더|정확한|판단|또는)*$`)

// label reads a label's note: "Winner (coverage): A" is about one criterion.
func label(note string) (reason string) {
	if !wholeNote.MatchString(note) {
		return Ambiguous
	}
	return ""
}

// A parser reads the verdicts of comparisons.
type parser struct {
	pattern  *regexp.Regexp
	enforced bool
}

func (o Options) parser() (*parser, error) {
	p := &parser{enforced: o.Role.Verdict != nil}
	if o.Pattern == "" {
		return p, nil
	}
	re, err := answers.CompilePattern(o.Pattern)
	if err != nil {
		return nil, fmt.Errorf("meta: pattern %q: %w", o.Pattern, err)
	}
	p.pattern = re
	return p, nil
}

// parse returns First or Second when a comparison names judgment A or judgment B as the more
// accurate one, else NoWins and the reason. FinishReason is the generation's.
func (p *parser) parse(text, finishReason string) (winner schemas.Winner, unparsed string) {
	if stage.FinishOf(finishReason) != stage.FinishComplete {
		return schemas.NoWins, CutOff
	}
	read := verdicts.Read
	switch {
	case p.pattern != nil:
		read = func(text string) (int, string) { return verdicts.ReadMatch(p.pattern, text) }
	case p.enforced:
		read = verdicts.ReadEnforced
	}
	n, unparsed := read(text)
	if unparsed != "" {
		return schemas.NoWins, unparsed
	}
	return schemas.Winner(n), ""
}
