// Package leads recognizes the words that may stand around a label, such as "So my final" before "score" and
// "awarded" after it.
//
// Callers pass texts that [prose.Fold] has put into lower case. If a word before a label is not in the
// package's lists, the package assumes that the sentence is about something else, so its label announces no
// result.
package leads

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"coeval/transforms/answers/patterns"
	"coeval/transforms/answers/prose"
)

// leads are the words that may precede a label in its sentence: conclusions, articles, and kinds of
// total. Any other word makes the sentence one about something else.
var leads = set(`
	so thus therefore hence finally overall in conclusion summary sum total final based on the above
	rubric this these that criteria analysis evaluation evaluations assessment reasoning my our its a an and
	accordingly consequently ultimately given all considering everything after review as result here is
	are to conclude adding add up points then now well ok okay verdict judgment judgement judge grading with
	taken together taking account into altogether it assigned evaluating clear number pick tally
	assigned given awarded aggregate cumulative combined resulting rubric numeric numerical additive adjusted
	revised updated corrected correction official actual answer response quality holistic composite earned grand net end
	net overall's answer's response's assistant's reply's score scoring rating grade mark points winner decision choice step last line
	out conclusions findings judge's llm recap tl dr tldr summing therefor
	die der das den de het le la les el il lo os o l un une una ein eine mein meine mon ma mi mia min your
	daher somit also insgesamt abschließend endgültige finale finaler gesamte donc ainsi finalement por tanto lo en definitiva
	conclusión quindi dunque portanto assim итак таким образом поэтому итоговая итоговый общая общий финальная окончательная
	fazit ergebnis вывод wniosek conclusie lautet beträgt balance outcome i ist short brief итог damit ergibt sich 이 답변의 응답의 моя в целом وبالتالي لذا الدرجة output evaluator's grader's reviewer's` + wholes)

// wholes are adjectives for the score or verdict of the whole: final, total, overall. They may
// stand before a label or after it.
const wholes = `
	finale finaler finales finalen globale générale generale totale totaler totales gesamte gesamter insgesamt endgültige endgültiger endgültiges
	abschließende definitiva definitivo definitive obtenue complessivo complessiva global geral general final
	definitief definitieve uiteindelijke totaal slutlig slutgiltig slutlige endelig endelige samlet totala totalt lopullinen lopulliset yhteensä
	végső összesített összes konečné konečný konečná finální finálne celkové celkový celková celkem
	końcowa końcowy końcowe ostateczna ostateczny ostateczne łączna łączny łącznie
	итоговая итоговый итоговое окончательная окончательный финальная финальный общая общий общее суммарный
	підсумкова підсумковий фінальна остаточна загальна загальний крайна финална обща общо укупна коначна konačna konačni konačno ukupna ukupno skupna finalna
	τελική τελικός τελικό συνολική συνολικό finală finalul totală nihai kesin son genel toplam yekun akhir terakhir keseluruhan cuối cùng tổng thể chung
	النهائي النهائية الإجمالية الإجمالي الكلية الكلي نهایی کل حتمی کُل הסופי סופי הסופית הכולל כולל
	अंतिम कुल समग्र শেষ চূড়ান্ত মোট இறுதி மொத்த తుది మొత్తం ಅಂತಿಮ ಒಟ್ಟು അന്തിമ ആകെ અંતિમ કુલ ਅੰਤਿਮ ਕੁੱਲ mwisho jumla panghuling pinal kabuuang`

// unspacedLeads are leads of scripts without spaces.
var unspacedLeads = strings.NewReplacer(pairsOf(`この その 总体而言 整体而言 总的来说 综合考虑 以上より 以上から 因此 所以 该回答 本回答 此回答 这个回答 回答 回复 本次 综上所述 综上 综合来看 综合以上 综合 最终 最後 最后 最終 总体 总 總 本 该 我的 我 给出的 给出 给 的 结论 总结 那么 したがって よって 総合 最終的な 最終的に 私の は 따라서 그러므로 결론적으로 최종적으로 최종 총 종합 나의 제`)...)

// pairsOf returns the words, longer ones first, each with a space that replaces it.
func pairsOf(words string) []string {
	var out []string
	for _, w := range slices.SortedStableFunc(strings.FieldsSeq(words), func(a, b string) int { return len(b) - len(a) }) {
		out = append(out, w, " ")
	}
	return out
}

// Only reports whether a text consists of leads, labels, list numbers and punctuation. IsLabel reports whether a
// word is a label.
func Only(s string, isLabel func(word string) bool) bool {
	s = strings.TrimLeft(s, " \t#-+•·–—>→➜|…")
	if prose.HasDigit(s) {
		s = listNumber.ReplaceAllString(s, "")
	}
	for w := range strings.FieldsFuncSeq(s, NotInWord) {
		if w = strings.Trim(w, "'’"); w == "" || leads[w] || isLabel(w) {
			continue
		}
		if w = strings.TrimSpace(unspacedLeads.Replace(w)); w != "" && !isLabel(w) {
			return false
		}
	}
	return true
}

var listNumber = patterns.New(`^\(?(?:\d+[.):]|step\s+\d+\s*[.):–—-])\s*`)

// NotInWord reports whether a character separates words.
func NotInWord(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '\'' && r != '’' && !unicode.IsMark(r)
}

// afters are the words between a label and its separator.
var afters = set(`awarded given assigned earned achieved value total overall final for of to this the that answer response
	reply answer's response's assistant's ai's judgment judgement one all points criteria here comparison two both between judgments of
	ответа ответу der antwort réponse respuesta risposta resposta de la della da svaret odpowiedzi` + wholes)

// After returns the length of the words at the beginning of a text that may follow a label.
func After(s string) int {
	at := 0
	for at < len(s) {
		n := at
		for n < len(s) && s[n] == ' ' {
			n++
		}
		end := n
		for end < len(s) {
			r, size := utf8.DecodeRuneInString(s[end:])
			if NotInWord(r) {
				break
			}
			end += size
		}
		if end == n || n == at || !afters[s[n:end]] {
			return at
		}
		at = end
	}
	return at
}

// plainLabels are the most frequent labels. None of them means a total.
var plainLabels = set("score rating points winner verdict")

// HasTotal reports whether a label, with the words around it, means a total.
func HasTotal(s string) bool { return !plainLabels[s] && totals.MatchString(s) }

var totals = patterns.New(`\b(?:total|final|overall|sum|cumulative|combined|aggregate|finale|globale?|totale?|gesamt|endgültige|insgesamt)\b|总|總|最终|最終|最后|综合|合計|総合|최종|총|итог|общ|النهائي|końcow|ostateczn|łączn|celkov|konečn|slutlig|samlet|végső|összes|τελικ|συνολικ|nihai|akhir|cuối|tổng|الإجمالي|نهایی|סופי|अंतिम|कुल|চূড়ান্ত|মোট|இறுதி|మొత్తం|สุดท้าย|รวม`)

func set(words string) map[string]bool {
	out := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		out[w] = true
	}
	return out
}
