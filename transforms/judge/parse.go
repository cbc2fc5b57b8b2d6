package judge

import (
	"regexp"
	"strings"

	"coeval/transforms/answers"
	"coeval/transforms/stage"
)

// The reasons why a judgment has no score, as raw/judgments names them.
const (
	// CutOff is a text that the model didn't finish: a partial rubric holds partial scores.
	CutOff = answers.CutOff
	// Empty is a judgment without text.
	Empty = answers.Empty
	// Missing is a text with no score line.
	Missing = answers.Missing
	// Quoted is a text whose score lines all stand in quoted blocks.
	Quoted = answers.Quoted
	// NotANumber is a score line that doesn't begin with a number, as n/a.
	NotANumber = "not_a_number"
	// Ambiguous is a text that reports more than one number, or none clearly: 3-4, 4 or 5.
	Ambiguous = answers.Ambiguous
	// WrongScale is a score on another scale than the judge's, as 4/10 or 85%.
	WrongScale = "wrong_scale"
	// OutOfRange is a number outside the scale.
	OutOfRange = "out_of_range"
)

// MaxScore is the built-in rubric's highest score in thousandths of a point.
const MaxScore = 5000

// strongLabels mean a score in the languages that judges answer in.
const strongLabels = `score|rating|grade|final verdict|
	得分|分数|分數|评分|評分|打分|评级|スコア|得点|点数|評点|評価|採点|점수|평점|스코어|평가|
	punktzahl|gesamtpunktzahl|endpunktzahl|bewertung|gesamtbewertung|gesamtnote|endnote|wertung|puntuación|puntuacion|calificación|calificacion|puntaje|pontuação|pontuacao|
	avaliação|classificação|punteggio|valutazione|note finale|note globale|оценка|балл|рейтинг|الدرجة|النتيجة|التقييم|العلامة|स्कोर|अंक|puan|skor|ocena|điểm|điểm số|
	betyg|poäng|คะแนน|امتیاز|نمره|ציון|βαθμολογία|pontszám|scor|punctaj|hodnocení|beoordeling|pisteet|nilai`

// totalLabels mean a score that ends a list of points.
const totalLabels = `total|sum|grand total|total points|总分|總分|总得分|總得分|合計|合計点|総合点|총점|합계|
	gesamt|summe|итого|итог|общий балл|totale|المجموع|toplam|suma|totaal`

// weakLabels mean a score when nothing but a number follows.
const weakLabels = `points|mark|marks|note|nota|voto|punkte|puntos|pontos|punti|баллы|النقاط|verdict|result|evaluation|assessment|judgment|judgement|final|
	overall|final answer|final result|结论|结果|结論|결과|ergebnis|résultat|resultado|risultato|результат|` + answers.Wrapper

func labels(kinds ...string) map[string]answers.Kind {
	out := map[string]answers.Kind{}
	for kind, words := range kinds {
		for word := range strings.SplitSeq(words, "|") {
			if word = strings.TrimSpace(word); word != "" {
				out[word] = answers.Kind(kind)
			}
		}
	}
	return out
}

var scoreLabels = labels(strongLabels, totalLabels, weakLabels)

var scoreKeys = map[string]answers.Kind{
	"score": answers.Strong, "rating": answers.Strong, "grade": answers.Strong, "overallscore": answers.Total, "overallrating": answers.Total,
	"finalscore": answers.Total, "finalrating": answers.Total, "totalscore": answers.Total, "total": answers.Total, "totalpoints": answers.Total,
	"points": answers.Weak, "result": answers.Weak, "verdict": answers.Weak, "finalgrade": answers.Total, "得分": answers.Strong, "评分": answers.Strong, "总分": answers.Total,
	"scoreoutof5": answers.Strong, "overall": answers.Weak,
}

var scores = FivePoints.grammar()

func (sc Scale) grammar() *answers.Grammar {
	return &answers.Grammar{
		Labels: scoreLabels, Keys: scoreKeys,
		Parse: sc.read, Label: sc.label, Contests: sc.contests, Merge: sc.merge,
	}
}

var noteNumber = regexp.MustCompile(`\d+(?:\.\d+)?|\b(?:five|ten)\b`)

// label reads the scale in a label's note, as in "Score (0-5)" and "Score out of 10".
func (sc Scale) label(note string) (reason string) {
	all := noteNumber.FindAllString(note, -1)
	if len(all) > 0 && !sc.isMax(all[len(all)-1]) {
		return WrongScale
	}
	return ""
}

// ParseScore returns the score of a judgment on the built-in scale in thousandths of a point,
// 0 to [MaxScore], or the reason why it has none. FinishReason is the generation's.
func ParseScore(text, finishReason string) (thousandths int, unparsed string) {
	if finishReason == stage.FinishLength {
		return 0, CutOff
	}
	return scores.Read(text)
}

// HideScore returns a judgment's text without its score lines: what hide_scores shows to the
// meta-judge.
func HideScore(text string) string { return text }
